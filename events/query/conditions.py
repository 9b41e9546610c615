"""Target conditions as expressions of the query language: what is ANDed with a query to keep it within a scope."""

from events.query import tree
from events.query.tree import Constant, Expression, PathOf
from events.targeting.tree import And, Comparison, Condition, Everyone, IsDefined, Nobody, Not, Or


def expression_of(condition: Condition) -> Expression:
    """The expression with the same verdict on every device: true, false or unknown."""
    match condition:
        case Everyone():
            return Constant(value=True)
        case Nobody():
            return Constant(value=False)
        case Comparison(path, op, literal):
            return tree.Comparison(PathOf(path), op, Constant(literal))
        case IsDefined(path):
            return tree.IsDefined(path)
        case And(terms):
            return tree.And(tuple(map(expression_of, terms)))
        case Or(terms):
            return tree.Or(tuple(map(expression_of, terms)))
        case Not(term):
            return tree.Not(expression_of(term))

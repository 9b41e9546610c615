"""Random rows and queries that use the same properties and values."""

from typing import Any

from hypothesis import strategies as st

from events.query.tree import (
    UNDEFINED,
    Aggregate,
    And,
    Arithmetic,
    ArithmeticOp,
    Comparison,
    Constant,
    Contains,
    Expression,
    Function,
    In,
    IsDefined,
    Literal,
    Not,
    Op,
    Or,
    Path,
    PathOf,
    Projection,
    Query,
    QuerySource,
)

PATHS: list[Path] = [("tags", "a"), ("tags", "b"), ("tags", "b", "c"), ("status",)]

scalars: st.SearchStrategy[Any] = st.sampled_from(["", "x", "Y", "1", 0, 1, 1.0, 2.5, -3, True, False])
values: st.SearchStrategy[Any] = scalars | st.sampled_from(
    [None, [1], ["x", 1.0, True], [], {}, {"c": 1}, {"c": "x"}, {"c": None}]
)
rows: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"tags": st.dictionaries(st.sampled_from(["a", "b"]), values)}, optional={"status": values}
)

literals: st.SearchStrategy[Literal] = scalars | st.sampled_from([None, UNDEFINED])
paths = st.sampled_from(PATHS)


def expressions(leaves: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Conditions on these leaves; as the parser does, an AND in an AND and an OR in an OR are replaced by their terms."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.lists(inner, min_size=2, max_size=3).map(
                lambda terms: And(
                    tuple(part for term in terms for part in (term.terms if isinstance(term, And) else [term]))
                )
            ),
            st.lists(inner, min_size=2, max_size=3).map(
                lambda terms: Or(
                    tuple(part for term in terms for part in (term.terms if isinstance(term, Or) else [term]))
                )
            ),
        ),
        max_leaves=8,
    )


# What an index of paths can answer.
indexed_leaves: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, st.builds(PathOf, paths), st.sampled_from(Op), st.builds(Constant, scalars)),
    st.builds(Comparison, st.builds(Constant, scalars), st.sampled_from(Op), st.builds(PathOf, paths)),
    st.builds(In, st.builds(PathOf, paths), st.lists(scalars, min_size=1, max_size=3).map(tuple)),
    st.builds(IsDefined, paths),
    st.builds(PathOf, paths),
    st.builds(Constant, st.booleans()),
)
operands: st.SearchStrategy[Expression] = st.recursive(
    st.builds(PathOf, paths) | st.builds(Constant, literals),
    lambda inner: st.builds(Arithmetic, inner, st.sampled_from(ArithmeticOp), inner),
    max_leaves=3,
)
leaves = st.one_of(
    indexed_leaves,
    operands,
    st.builds(Comparison, operands | indexed_leaves, st.sampled_from(Op), operands | indexed_leaves),
    st.builds(In, operands, st.lists(literals, min_size=1, max_size=3).map(tuple)),
    st.builds(Contains, paths, literals),
)
indexed_wheres = expressions(indexed_leaves)
wheres = expressions(leaves)

names = st.text(max_size=4).filter(
    lambda name: bool(name) and "]]" not in name and all(ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000 for c in name)
)
odd_paths = st.tuples(st.sampled_from(["tags", "configurations", "in", "Top", "select"]), names | st.just("From"))
columns = st.one_of(
    st.builds(Aggregate, st.just(Function.COUNT)),
    st.builds(Aggregate, st.sampled_from([f for f in Function if f is not Function.COUNT]), paths),
)


@st.composite
def aggregates(draw: st.DrawFn) -> Query:
    group_by = tuple(draw(st.lists(paths, max_size=2, unique=True)))
    select = (*draw(st.lists(columns, min_size=1, max_size=3)), *map(Projection, group_by))
    return Query(select=select, group_by=group_by, top=draw(st.none() | st.integers(1, 3)))


queries: st.SearchStrategy[Query] = st.one_of(
    aggregates(),
    st.builds(
        Query,
        select=st.lists(st.builds(Projection, paths | odd_paths), max_size=3).map(tuple),
        top=st.none() | st.integers(1, 10**6),
        source=st.sampled_from(QuerySource),
        where=st.none() | wheres,
    ),
    st.builds(
        Query,
        select=st.lists(st.builds(Projection, paths, names), max_size=3, unique_by=lambda item: item.alias).map(tuple),
        where=st.builds(Comparison, st.builds(PathOf, odd_paths), st.just(Op.EQ), st.builds(Constant, names)),
    ),
)

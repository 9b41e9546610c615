"""Places where code decides, and what is put in their place.

A module is compiled once, with a switch at every comparison and boolean operator: `a < b` becomes `(a <= b) if switch(7) else (a < b)`.
The switch tells which tests come by a place, and, in a process of its own, lets one mutant through.
"""

import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import msgspec

SWITCH = "__mutated__"

_OTHERS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


class Mutant(msgspec.Struct, frozen=True):
    """One change; `name` stays when lines move."""

    number: int
    line: int
    name: str


class Places(ast.NodeTransformer):
    """Puts a switch at every place of a module. An assertion decides nothing, and is left alone."""

    def __init__(self, path: str, mutants: list[Mutant]) -> None:
        self._path, self._mutants = path, mutants
        self._scope: list[str] = []

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815
    visit_ClassDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        changed = []
        for at, operator in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[at] = _OTHERS[type(operator)]()
            changed.append(other)
        return self._switched(node, changed)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return self._switched(node, [other])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        changed = [copy.deepcopy(node.operand)] if isinstance(node.op, ast.Not) else []
        return self._switched(node, changed)

    def _inside(self, node: Any) -> ast.AST:
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()
        return node  # type: ignore[no-any-return]

    def _switched(self, node: ast.expr, changed: Sequence[ast.expr]) -> ast.AST:
        before = ast.unparse(node)
        numbers = [self._add(node.lineno, f"{before}  ->  {ast.unparse(other)}") for other in changed]
        self.generic_visit(node)
        for number, other in zip(numbers, changed, strict=True):
            switch = ast.Call(ast.Name(SWITCH, ast.Load()), [ast.Constant(number)], [])
            node = ast.copy_location(ast.IfExp(switch, other, node), node)
        return node

    def _add(self, line: int, change: str) -> int:
        name = f"{self._path} {'.'.join(self._scope) or 'module'}: {change}"
        again = sum(mutant.name.partition(" (again")[0] == name for mutant in self._mutants)
        number = len(self._mutants)
        self._mutants.append(Mutant(number, line, f"{name} (again {again})" if again else name))
        return number


class Switched(importlib.abc.MetaPathFinder):
    """Finds the modules of some packages, with their switches in."""

    def __init__(self, root: Path, locations: Sequence[str], switch: Callable[[int], bool]) -> None:
        self.mutants: list[Mutant] = []
        self._files = {
            file
            for location in locations
            for file in ((root / location).rglob("*.py") if (root / location).is_dir() else [root / location])
        }
        assert all(file.is_file() for file in self._files), locations
        self._root, self._switch = root, switch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or Path(spec.origin) not in self._files:
            return None
        spec.loader = _Loader(fullname, spec.origin, self)
        return spec

    def compiled(self, source: bytes, path: str) -> CodeType:
        tree = Places(str(Path(path).relative_to(self._root)), self.mutants).visit(ast.parse(source))
        return compile(ast.fix_missing_locations(tree), path, "exec")

    def install(self) -> None:
        sys.meta_path.insert(0, self)

    def begin(self, module: ModuleType) -> None:
        setattr(module, SWITCH, self._switch)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, switched: Switched) -> None:
        super().__init__(fullname, path)
        self._switched = switched

    def get_code(self, fullname: str) -> CodeType:
        """Never from a cache."""
        path = self.get_filename(fullname)
        return self._switched.compiled(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        self._switched.begin(module)
        super().exec_module(module)

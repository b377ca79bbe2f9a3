"""Mutants of Python modules, each behind a switch: `a < b` becomes `(a <= b if mutant(7) else a < b)`.

All mutants of a module stand in one file, so one run of the tests records which test reaches which mutant. Later runs turn
on one mutant each, and run only the tests that reach it.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

N = TypeVar("N", bound=ast.AST)

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# Text for people: a changed number in a message is no fault of the code.
MESSAGE_CALLS = {"warn", "write", "echo", "debug", "info"}


class Mutator(ast.NodeTransformer):
    """Puts a switch before each expression and statement that it can change."""

    def __init__(self, add: Callable[[int, str], int]) -> None:
        """Keep the function that numbers mutants.

        Args:
            add: Takes the line and a description of a mutant, and returns its number.
        """
        self.add = add

    def _switch(self, number: int) -> ast.Call:
        return ast.Call(ast.Name("__mutant__", ast.Load()), [ast.Constant(number)], [])

    def _choose(self, node: ast.expr, changed: list[tuple[ast.expr, str]]) -> ast.expr:
        """Return the visited node behind one switch for each of its changed forms."""
        result = cast("ast.expr", self.generic_visit(node))
        for form, described in changed:
            number = self.add(node.lineno, described)
            result = ast.IfExp(self._switch(number), form, result)
        return result

    # --- expressions ---

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        original = copy.deepcopy(node)
        changed: list[tuple[ast.expr, str]] = []
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                form = copy.deepcopy(original)
                form.ops[place] = other()
                changed.append((form, f"{ast.unparse(original)} → {ast.unparse(form)}"))
        return self._choose(node, changed)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        form = copy.deepcopy(node)
        form.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return self._choose(node, [(form, f"{ast.unparse(node)} → {ast.unparse(form)}")])

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        other = ARITHMETIC.get(type(node.op))
        is_text = any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if other is None or is_text:
            return cast("ast.expr", self.generic_visit(node))
        form = copy.deepcopy(node)
        form.op = other()
        return self._choose(node, [(form, f"{ast.unparse(node)} → {ast.unparse(form)}")])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if not isinstance(node.op, ast.Not):
            return cast("ast.expr", self.generic_visit(node))
        form = copy.deepcopy(node.operand)
        return self._choose(node, [(form, f"{ast.unparse(node)} → {ast.unparse(form)}")])

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        other: object
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        elif isinstance(value, bytes) and value:
            other = bytes([value[0] ^ 1]) + value[1:]
        else:
            return node
        form = ast.Constant(cast("int", other))
        return self._choose(node, [(form, f"{value!r} → {other!r}")])

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        form = copy.deepcopy(node)
        form.body, form.orelse = form.orelse, form.body
        return self._choose(node, [(form, f"{ast.unparse(node)}: branches swapped")])

    # --- statements ---

    def _without(self, node: ast.stmt) -> ast.stmt:
        """Return the visited statement behind a switch that leaves it out."""
        original = ast.unparse(node).splitlines()[0]
        number = self.add(node.lineno, f"{original}: left out")
        visited = cast("ast.stmt", self.generic_visit(node))
        return ast.If(self._switch(number), [ast.Pass()], [visited])

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Attribute) and function.attr in MESSAGE_CALLS:
                return node
            return self._without(node)
        return cast("ast.stmt", self.generic_visit(node))

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        # The arguments are a message, but for `offset=`, which is public.
        number = self.add(node.lineno, f"{ast.unparse(node)[:100]}: left out")
        if isinstance(node.exc, ast.Call):
            for keyword in node.exc.keywords:
                if keyword.arg == "offset":
                    keyword.value = self.visit(keyword.value)
        return ast.If(self._switch(number), [ast.Pass()], [node])

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        other = ARITHMETIC.get(type(node.op))
        original = copy.deepcopy(node)
        visited = cast("ast.stmt", self.generic_visit(node))
        if other is None:
            return visited
        form = copy.deepcopy(original)
        form.op = other()
        number = self.add(node.lineno, f"{ast.unparse(original)} → {ast.unparse(form)}")
        return ast.If(self._switch(number), [form], [visited])

    def visit_If(self, node: ast.If) -> ast.stmt:
        if ast.unparse(node.test) in {"TYPE_CHECKING", "__debug__"}:
            return node
        visited = cast("ast.If", self.generic_visit(node))
        # comparisons, `not`, `and` and `or` are changed by their own rules
        if isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr)):
            number = self.add(node.lineno, f"if {ast.unparse(node.test)}: negated")
            negated = ast.UnaryOp(ast.Not(), copy.deepcopy(visited.test))
            visited.test = ast.IfExp(self._switch(number), negated, visited.test)
        return visited

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        original = copy.deepcopy(node)
        visited = cast("ast.Return", self.generic_visit(node))
        if isinstance(original.value, (ast.Call, ast.Name, ast.Attribute, ast.Subscript)):
            number = self.add(node.lineno, f"{ast.unparse(original)} → return None")
            return ast.If(self._switch(number), [ast.Return(ast.Constant(None))], [visited])
        return visited

    def visit_Break(self, node: ast.Break) -> ast.stmt:
        number = self.add(node.lineno, "break → continue")
        return ast.If(self._switch(number), [ast.Continue()], [node])

    def visit_Continue(self, node: ast.Continue) -> ast.stmt:
        number = self.add(node.lineno, "continue → break")
        return ast.If(self._switch(number), [ast.Break()], [node])

    # --- what stays as it is ---

    def _keep(self, node: N) -> N:
        return node

    # Annotations are for type checkers; text is for people.
    visit_JoinedStr = _keep  # noqa: N815
    visit_Import = _keep  # noqa: N815
    visit_ImportFrom = _keep  # noqa: N815

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [default and self.visit(default) for default in node.kw_defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.visit(node.args)
        node.body = self._visit_body(node.body)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        self.visit(node.args)
        node.body = self._visit_body(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = self._visit_body(node.body)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        # a pattern allows only constants
        if node.guard is not None:
            node.guard = self.visit(node.guard)
        node.body = self._visit_body(node.body)
        return node

    def _visit_body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [cast("ast.stmt", self.visit(statement)) for statement in body]


def mutate_python(source: str, add: Callable[[int, str], int]) -> str:
    """Return a Python module with all of its mutants, each behind a switch.

    Args:
        source: The module.
        add: Takes the line and a description of a mutant, and returns its number.
    """
    tree = ast.parse(source)
    mutated = cast("ast.Module", Mutator(add).visit(tree))
    switch = ast.parse("from blobpack.mutant_switch import mutant as __mutant__").body
    # behind the docstring and the imports from __future__, which must come first
    place = 0
    while place < len(mutated.body) and _must_come_first(mutated.body[place]):
        place += 1
    mutated.body[place:place] = switch
    return ast.unparse(ast.fix_missing_locations(mutated))


def _must_come_first(statement: ast.stmt) -> bool:
    """Return whether a statement is a docstring, or an import from __future__."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"

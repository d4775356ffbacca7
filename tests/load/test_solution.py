"""Solution files of three solvers, as they write them."""

from fractions import Fraction
from pathlib import Path

import pytest

from bvverify.errors import InputError
from bvverify.load import solution

GUROBI = "# Solution for model robust\n# Objective value = 0\nx_0 3\nx_1 1.0000000001\nx_2 0\nz_1_0 7\n"
SCIP = """solution status: optimal solution found
objective value:                        0
x_0                                     3 \t(obj:0)
x_1                          0.9999999999 \t(obj:0)
"""
HIGHS = """Model status
Optimal

# Primal solution values
Feasible
Objective 0
# Columns 4
x_0 3
x_1 1
x_2 0
z_1_0 7
# Rows 1
x_0 99

# Dual solution values
None
"""
FILE = Path("w.sol")


@pytest.mark.parametrize("text", [GUROBI, SCIP, SCIP.partition("\n")[2] + "z_1_0 infinity\n", HIGHS])
def test_the_input_is_read(text):
    found = solution.parse(FILE, text)
    assert found.word == "sat"
    values, off = solution.integers(FILE, found, 3)
    assert values == [3, 1, 0]
    assert off < Fraction(1, 10**8)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Model status\nInfeasible\n\n# Primal solution values\nNone\n", "unsat"),
        ("Model status\nInfeasible\n\n# Primal solution values\nInfeasible\nObjective 0\n# Columns 1\nx_0 1\n# Rows 0\n", "unsat"),
        ("Model status\nTime limit reached\n\n# Primal solution values\nNone\n", "unknown"),
        ("solution status: infeasible\nno solution available\n", "unsat"),
        ("no solution available\n", "unknown"),
        ("solution status: time limit reached\nno solution available\n", "unknown"),
    ],
)
def test_what_a_solver_says_without_a_solution(text, word):
    assert solution.parse(FILE, text) == solution.Solution(word)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x_0 0.5\nx_1 0\nx_2 0\n", "x_0 is 0.5, no integer"),
        ("x_0 1\nx_2 0\n", "gives no x_1"),
        ("x_0 1\nx_1 1\nx_2 1\nx_3 1\n", "gives x_3, but the input has 3 values"),
        ("x_0 1\nx_0 2\n", "two values"),
        ("x_0 one\n", "no line of a solution file"),
        ("optimal\n", "no line of a solution file"),
        ("no_solution available\n", "gives no x_0"),
        ("Columns\n Index Status Lower\n", "write_solution_style 0"),
        ("", "is empty"),
        ("solution status: optimal\nobjective value: 0\n", "gives no x_0"),
    ],
)
def test_what_is_no_solution_is_said(text, complaint):
    with pytest.raises(InputError, match=complaint):
        solution.integers(FILE, solution.parse(FILE, text), 3)


def test_highs_writes_what_is_read(tmp_path):
    highspy = pytest.importorskip("highspy")
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    h.addVars(2, [2.0, 5.0], [2.0, 5.0])
    for i in range(2):
        h.passColName(i, f"x_{i}")
    h.run()
    file = tmp_path / "h.sol"
    h.writeSolution(str(file), 0)
    assert solution.integers(file, solution.parse(file, file.read_text()), 2) == ([2, 5], 0)

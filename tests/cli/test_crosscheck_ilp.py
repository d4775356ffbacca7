"""An ILP that we export, a solver's answer to it, and what ``crosscheck`` makes of that: from the file to the row that is to blame."""

import csv
import json
import re

import highspy
import numpy as np
import pytest

from bvverify import examples
from bvverify.cli import main


def _solve(program, solution):
    """HiGHS on an exported file, as a user would run it: the solution is written next to it. Whether there is one."""
    solver = highspy.Highs()
    solver.silent()
    # Both programs are small; as written, so that the big-M constant stays what it is.
    for option, value in (("presolve", "off"), ("threads", 1), ("write_solution_style", 0)):
        assert solver.setOptionValue(option, value) == highspy.HighsStatus.kOk
    assert solver.readModel(str(program)) == highspy.HighsStatus.kOk
    solver.run()
    assert solver.writeSolution(str(solution), 0) == highspy.HighsStatus.kOk
    return solver.getModelStatus() == highspy.HighsModelStatus.kOptimal


def _input(tmp_path, x):
    np.save(tmp_path / "x.npy", np.array([[x]]))
    return str(tmp_path / "x.npy")


def _judge(tmp_path, model, x, radius, claim, witness, source):
    with (tmp_path / "claims.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "input", "label", "radius", "claim", "claimed_witness", "source"])
        writer.writerow([model, _input(tmp_path, x), "", radius, claim, witness, source])
    files = [str(tmp_path / name) for name in ("claims.csv", "judged.jsonl", "judged.html")]
    code = main(["crosscheck", files[0], "-o", files[1], "--html", files[2], "--jobs", "1"])
    (line,) = map(json.loads, (tmp_path / "judged.jsonl").read_text().splitlines())
    return code, line, (tmp_path / "judged.html").read_text()


@pytest.mark.parametrize("form", ["lp", "mps"])
@pytest.mark.parametrize("reading", ["exact", "aaai24", "qvip"])
def test_a_solver_says_of_the_tie_what_its_reading_says(tmp_path, capfd, form, reading):
    """The bundled tie is not robust. The exact reading finds the input, the others exclude it, and the row that does is named."""
    model, program, solution = examples.path(examples.ILP_TIE), tmp_path / f"tie.{form}", tmp_path / "tie.sol"
    asked = [str(model), "--input", _input(tmp_path, 6), "--radius", "1"]
    assert main(["export", *asked, "--format", form, "--reading", reading, "-o", str(program)]) == 0
    assert _solve(program, solution) == (reading == "exact")
    code, line, page = _judge(tmp_path, model, 6, 1, "", solution.name, f"ilp:{reading}")
    if reading == "exact":
        assert (code, line["status"], line["witness"]) == (0, "confirmed", [5])
        assert line["difference"] is None
        return
    assert (code, line["claimed"], line["status"]) == (10, "verified", "refuted")
    assert (line["difference"]["blame"], line["difference"]["op"]) == ("tie", "output")
    assert "the device (float32-half-even) makes 2 of it, half up 3" in page


def test_a_solution_that_leaks_through_a_big_m_is_explained(tmp_path, capfd):
    """As Gurobi would write it; the values are those of ``test_differ``, which every row allows up to the tolerance."""
    values = {"x_0": 2, "h_1_0_0": 4e-7, "h_1_0_1": 1 - 4e-7, "y_1_0": 1, "h_1_1_2": 1, "y_1_1": 2, "y_2_0": 30, "y_2_1": 31, "v_0": 1}
    values |= {"a_1_0": 20, "a_1_1": 220, "a_2_0": 300, "a_2_1": 310, "h_2_1_31": 1}
    model, program, solution = examples.path(examples.ILP_BIG_M), tmp_path / "big.lp", tmp_path / "big.sol"
    asked = [str(model), "--input", _input(tmp_path, 3), "--radius", "1", "--format", "lp", "--reading", "qvip", "-o", str(program)]
    assert main(["export", *asked]) == 0
    names = re.findall(r"<= (\w+) <=", program.read_text())
    assert set(values) <= set(names)
    solution.write_text("# Objective value = 0\n" + "".join(f"{name} {values.get(name, 0)!r}\n" for name in names))
    code, line, page = _judge(tmp_path, model, 3, 1, "", solution.name, "QVIP (ILP)")
    assert (code, line["claimed"], line["status"], line["verdict"]) == (10, "falsified", "refuted", "verified")
    assert (line["difference"]["blame"], line["difference"]["row"]) == ("big-M", "lower_1_0")
    assert "times 1,000,000" in page
    # A file of another program lacks variables, and nothing is said.
    solution.write_text("# Objective value = 0\nx_0 2\n")
    (tmp_path / "judged.jsonl").unlink()
    assert _judge(tmp_path, model, 3, 1, "", solution.name, "QVIP (ILP)")[1]["difference"] is None


def test_a_source_that_names_no_reading_is_not_asked(tmp_path, capfd):
    _, line, page = _judge(tmp_path, examples.path(examples.ILP_TIE), 6, 1, "robust", "", "an exact method")
    assert (line["status"], line["difference"]) == ("refuted", None)
    assert "part</td>" not in page

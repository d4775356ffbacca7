"""Three solvers, each through its own reader of SMT-LIB 2, in process."""

import bitwuzla
import cvc5
import z3


def ask_bitwuzla(script):
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    parser.parse(script, parse_only=True, parse_file=False)
    return str(parser.bitwuzla().check_sat())


def ask_cvc5(script):
    solver = cvc5.Solver(cvc5.TermManager())
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "question")
    symbols, said = parser.getSymbolManager(), []
    while not (command := parser.nextCommand()).isNull():
        said.append(str(command.invoke(solver, symbols)))
    return "".join(said).strip()


def ask_z3(script):
    solver = z3.Solver()
    solver.from_string(script)
    return str(solver.check())


ALL = {"bitwuzla": ask_bitwuzla, "cvc5": ask_cvc5, "z3": ask_z3}

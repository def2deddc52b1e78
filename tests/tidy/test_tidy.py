#!/usr/bin/env python3
"""Claim: each check of tidy.py finds the fault that it is for. Method: a small tree per fault."""
import tempfile
import unittest
from pathlib import Path

import tidy

GOOD_HEADER = '/* base/good.h: fine. */\n#pragma once\n#include "base/other.h"\n'


class TidyTest(unittest.TestCase):
    def findings(self, check, **tree):
        with tempfile.TemporaryDirectory() as folder:
            top = Path(folder)
            for name, text in tree.items():
                path = top / name.replace("__", "/").replace("_dot_", ".")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return list(check(top))

    def assert_one(self, findings, part):
        self.assertEqual(len(findings), 1, findings)
        self.assertIn(part, findings[0])

    def test_includes(self):
        self.assertEqual(self.findings(tidy.check_includes, cpu__a_dot_c='#include "model/backend.h"\n'), [])
        self.assert_one(self.findings(tidy.check_includes, model__a_dot_c='#include "cpu/cpu.h"\n'), "may not include")
        self.assert_one(self.findings(tidy.check_includes, base__a_dot_c='#include "error.h"\n'), "top of the tree")
        self.assert_one(self.findings(tidy.check_includes, engine__a_dot_c="#include <jansson.h>\n"), "only config")
        self.assert_one(self.findings(tidy.check_includes, server__a_dot_c='#include "model/model.h"\n'), "may not")

    def test_headers(self):
        other = "/* base/other.h: fine. */\n#pragma once\ntypedef int t5_int;\n"
        self.assertEqual(self.findings(tidy.check_headers, base__good_dot_h=GOOD_HEADER, base__other_dot_h=other), [])
        self.assert_one(self.findings(tidy.check_headers, base__good_dot_h=GOOD_HEADER), "does not compile alone as c")
        cpp = "/* base/new.h: T5_C_BEGIN */\n#pragma once\nint new;\n"
        self.assert_one(self.findings(tidy.check_headers, base__new_dot_h=cpp), "does not compile alone as cc")
        self.assert_one(self.findings(tidy.check_headers, base__a_dot_h="#pragma once\n"), "must open with a comment")

    def test_functions(self):
        def function(n_lines):
            return "void f(void)\n{\n" + "    g();\n" * (n_lines - 2) + "}\n"
        self.assertEqual(self.findings(tidy.check_functions, base__a_dot_c=function(70)), [])
        self.assert_one(self.findings(tidy.check_functions, base__a_dot_c=function(71)), "function of 71 lines")
        self.assert_one(self.findings(tidy.check_functions, base__a_dot_c="\n" * 601), "601 lines")

    def test_text(self):
        self.assertEqual(self.findings(tidy.check_text, a_dot_md="fine, see models/x and ../home/x\n"), [])
        self.assert_one(self.findings(tidy.check_text, a_dot_md="end"), "no newline")
        self.assert_one(self.findings(tidy.check_text, a_dot_md="end \n"), "trailing space")
        self.assert_one(self.findings(tidy.check_text, a_dot_md="end\r\n"), "carriage return")
        self.assert_one(self.findings(tidy.check_text, a_dot_md=b"\xff\n"), "not UTF-8")
        self.assert_one(self.findings(tidy.check_text, a_dot_c="/* TO" "DO: later */\n"), "promise")
        self.assert_one(self.findings(tidy.check_text, a_dot_md="see /ho" "me/me/x\n"), "path of one machine")

    def test_readme(self):
        self.assertEqual(self.findings(tidy.check_readme, README_dot_md="```c\nint x;\n```\n"), [])
        self.assert_one(self.findings(tidy.check_readme, README_dot_md="```c\nint x\n```\n"), "does not compile")


if __name__ == "__main__":
    unittest.main()

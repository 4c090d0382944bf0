"""The family tree: other ways to let a language model see and paint, each in its smallest true form, on one table.

`python -m minidream.studies families all` trains them with one budget on one world and writes the table. What all share:
`samples.py` (what is learned and asked), `family.py` (what a family is), `evaluation.py` (how replies are scored), `studies/family_runs.py` (plan,
runs, JSON), `table.py` (the table, as text and as figure). Everything else is one family per file.

Paper: section 4 and appendix (related work); sections 2.1 and 5.1 for the two claims that the table tests.
"""

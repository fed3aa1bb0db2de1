"""Success rates, comparisons of two policies, tests under optional stopping, and how many trials a question needs.

Every interval and test is checked by enumeration in ``tests/evaluation/statistics``.
"""

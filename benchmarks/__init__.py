"""qfund beside its peers, and beside what a bare page or a plain computation costs.

Each module prints ratios measured side by side in one run:  python -m benchmarks.NAME
"""

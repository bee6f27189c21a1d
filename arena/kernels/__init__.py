"""The two loops in which an analysis-by-synthesis defense spends its time, as torch operators over native code."""

"""Rows as text, tables, figures and one page."""

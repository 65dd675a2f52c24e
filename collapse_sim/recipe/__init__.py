"""Recipes: the schema, YAML with line numbers, overrides, grids, smoke sizes, shipped recipes."""

"""Molecules: conformations of molecules whose graph is given, one file per kind of data."""

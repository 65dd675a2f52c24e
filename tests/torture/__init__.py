"""Attacks on the program that are too long for every test run; short versions are among the tests."""

"""What a run does and leaves behind: the generation loop, a session at it, saved runs, exports, figures."""

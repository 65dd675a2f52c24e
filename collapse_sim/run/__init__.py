"""What a run does and leaves behind: the generation loop, sessions, saved runs, exports, figures."""

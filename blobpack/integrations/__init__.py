"""Annotation tools: what each of them calls a project, a task or a row, made from the members of a blob."""

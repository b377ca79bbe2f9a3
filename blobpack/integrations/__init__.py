"""Annotation tools and frameworks: members of blobs as the projects, tasks, rows or samples of each."""

"""Annotation tools: members of blobs as the projects, tasks or rows of each tool."""

"""Supervisely's server: its REST API, and blobs, images, annotations and projects that go there and come back."""

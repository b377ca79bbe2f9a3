"""Supervisely's server: its REST API, and the upload and download of blobs, images, annotations and projects."""

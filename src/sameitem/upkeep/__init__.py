"""What runs around the two pipelines: jobs, the demo shop, measuring a shop."""

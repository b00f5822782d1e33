"""A photo in, its feature and its colour out: ONNX sessions over model folders, no training."""

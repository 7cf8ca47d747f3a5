"""Attributions of predictions: Shapley values and occlusion, without HTTP."""

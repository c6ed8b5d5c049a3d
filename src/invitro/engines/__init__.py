"""Engines that answer requests, from scripted replies to vLLM on a cluster."""

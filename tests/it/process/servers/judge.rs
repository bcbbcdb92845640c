//! A server made with the official Python SDK, as an independent judge.

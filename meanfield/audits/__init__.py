"""Audits of every attention layer and head of a model: measured, recorded, judged, resumed."""

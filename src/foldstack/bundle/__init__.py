"""Bundles: a stored blend in a folder that predicts without network, workspace and training rows.

`manifest` has the record of a bundle, `weights` its smaller forms of weights, `shipped` the competition
as a bundle knows it, `infer` predicts, and `vendored` copies the packages that an image may lack.
"""

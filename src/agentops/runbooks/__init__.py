"""Runbooks: the page's sections as YAML files, read and carried out.

runbooks/<name>.yaml → model (checked, with file and step in every complaint) → engine → dispatch(argv), step by step
"""

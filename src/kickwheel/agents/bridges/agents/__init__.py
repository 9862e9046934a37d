"""Agents of other frameworks at work, a file each: how one is asked, and what it tells of its work.

What they share is in `bridges.worker`; their tools and models are in the file of the same name one
folder up, which is also where the framework is named that is to be installed.
"""

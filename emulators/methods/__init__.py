"""Methods of emulation, one folder each: what needs a store of simulations and nothing else.

What is simulated, and which method it takes, is said by the systems beside this folder.
"""

"""The device around a core as software sees it: registers, descriptors, completion records, and a driver.

What a board needs of it imports NumPy alone.
"""

"""What every backend must compute, in Python: the C core, Numba and NumPy agree with it to the bit."""

"""meanfield: inputs are measures, layers are maps between measures."""

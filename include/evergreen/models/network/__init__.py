"""The multi-modal network and the loop that trains it, on a CPU, a GPU or many. Its modules import torch."""

"""The reference segmentation network: a 2D U-Net, its loss, training and scores."""

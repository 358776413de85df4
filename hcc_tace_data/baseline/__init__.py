"""The reference segmentation networks: a 2D and a 3D U-Net, their loss, training and scores."""

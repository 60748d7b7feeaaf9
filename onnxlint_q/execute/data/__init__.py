"""Sources of samples: arrays, archives, images and their preprocessing, synthetic inputs."""

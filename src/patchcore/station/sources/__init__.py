"""Sources: what brings images in: a folder, a camera, a video; and what makes a camera take one."""

int staffel_kernels_placeholder(void);

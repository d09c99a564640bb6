#include "staffel_kernels.h"
int staffel_kernels_placeholder(void){return 0;}

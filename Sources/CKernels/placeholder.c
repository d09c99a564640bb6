#include "staffel_kernels.h"

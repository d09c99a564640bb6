#include "CWire.h"
int staffel_wire_placeholder(void){return 0;}

int staffel_wire_placeholder(void);

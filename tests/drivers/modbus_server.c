/* A foreign Modbus server for tests: Debian's libmodbus does all of the protocol.
   modbus_server tcp | rtu DEVICE     ends by itself after 60 s.  Says "ready PORT" when it listens. */
#include <arpa/inet.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **word)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_mapping_t *table = modbus_mapping_new(64, 64, 64, 64);
    int listening = -1, length;
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    modbus_t *link;

    if (count < 2 || table == NULL)
        return 2;
    alarm(60);
    table->tab_input_bits[1] = 1;      /* the barrier is closed */
    table->tab_input_registers[0] = 7; /* entries */
    table->tab_input_registers[1] = 3; /* exits */
    if (strcmp(word[1], "rtu") == 0 && count == 3) {
        link = modbus_new_rtu(word[2], 9600, 'N', 8, 1);
        if (link == NULL || modbus_set_slave(link, 1) != 0 || modbus_connect(link) != 0)
            return 3;
        puts("ready 0");
        fflush(stdout);
    } else {
        link = modbus_new_tcp("127.0.0.1", 0);
        if (link == NULL || (listening = modbus_tcp_listen(link, 1)) < 0)
            return 3;
        if (getsockname(listening, (struct sockaddr *)&bound, &size) != 0)
            return 4;
        printf("ready %d\n", ntohs(bound.sin_port));
        fflush(stdout);
        modbus_tcp_accept(link, &listening);
    }
    for (;;) {
        length = modbus_receive(link, query);
        if (length > 0) {
            modbus_reply(link, query, length, table);
            table->tab_input_bits[0] = table->tab_bits[0] || table->tab_bits[2]; /* the barrier follows the relays */
            table->tab_input_bits[1] = !table->tab_input_bits[0];
        } else if (length == -1 && listening >= 0) {
            modbus_close(link);
            modbus_tcp_accept(link, &listening);
        }
    }
}

// A device, memory on its master and a processor on its registers: runs the descriptor of before.hex and holds
// the memory to after.hex, both of which the generator wrote, all but the completion record.

`timescale 1ns / 1ps

module lean_attention_axi_tb;
    `include "parameters.vh"

    localparam integer BEAT_BYTES = DATA_BITS / 8;
    localparam integer BEAT_SHIFT = $clog2(BEAT_BYTES);
    localparam integer LATENCY = 20;
    localparam integer CYCLES_MAX = 100000;

    reg aclk = 0, aresetn = 0;
    always #5 aclk = ~aclk;
    wire irq;

    // Registers.
    reg [11:0] awaddr = 0, araddr = 0;
    reg [31:0] wdata = 0;
    reg awvalid = 0, wvalid = 0, arvalid = 0;
    wire awready, wready, bvalid, arready, rvalid;
    wire [1:0] bresp, rresp;
    wire [31:0] rdata;

    // Memory.
    wire [ADDRESS_BITS-1:0] m_awaddr, m_araddr;
    wire [7:0] m_awlen, m_arlen;
    wire m_awvalid, m_arvalid, m_wvalid, m_wlast, m_bready, m_rready;
    wire [DATA_BITS-1:0] m_wdata;
    wire [BEAT_BYTES-1:0] m_wstrb;
    reg m_bvalid = 0, m_rvalid = 0, m_rlast = 0;
    reg [DATA_BITS-1:0] m_rdata = 0;

    reg [DATA_BITS-1:0] memory[0:MEMORY_WORDS-1];
    reg [DATA_BITS-1:0] expected[0:MEMORY_WORDS-1];

    lean_attention_axi dut (
        .aclk(aclk), .aresetn(aresetn), .irq(irq),
        .s_axil_awaddr(awaddr), .s_axil_awprot(3'b0), .s_axil_awvalid(awvalid), .s_axil_awready(awready),
        .s_axil_wdata(wdata), .s_axil_wstrb(4'hF), .s_axil_wvalid(wvalid), .s_axil_wready(wready),
        .s_axil_bresp(bresp), .s_axil_bvalid(bvalid), .s_axil_bready(1'b1),
        .s_axil_araddr(araddr), .s_axil_arprot(3'b0), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
        .s_axil_rdata(rdata), .s_axil_rresp(rresp), .s_axil_rvalid(rvalid), .s_axil_rready(1'b1),
        .m_axi_awaddr(m_awaddr), .m_axi_awlen(m_awlen), .m_axi_awvalid(m_awvalid), .m_axi_awready(1'b1),
        .m_axi_wdata(m_wdata), .m_axi_wstrb(m_wstrb), .m_axi_wlast(m_wlast), .m_axi_wvalid(m_wvalid),
        .m_axi_wready(write_left != 0), .m_axi_bid({ID_BITS{1'b0}}), .m_axi_bresp(2'b0), .m_axi_bvalid(m_bvalid),
        .m_axi_bready(m_bready),
        .m_axi_araddr(m_araddr), .m_axi_arlen(m_arlen), .m_axi_arvalid(m_arvalid), .m_axi_arready(1'b1),
        .m_axi_rid({ID_BITS{1'b0}}), .m_axi_rdata(m_rdata), .m_axi_rresp(2'b0), .m_axi_rlast(m_rlast),
        .m_axi_rvalid(m_rvalid), .m_axi_rready(m_rready)
    );

    // Bursts that are asked for, in order, and when.
    integer cycle = 0;
    integer read_word[$], read_beats[$], read_due[$];
    integer write_word[$], write_beats[$];
    integer write_left = 0;
    integer n;
    always @(posedge aclk) begin
        cycle <= cycle + 1;
        if (aresetn && m_arvalid) begin
            read_word.push_back(m_araddr >> BEAT_SHIFT);
            read_beats.push_back(m_arlen + 1);
            read_due.push_back(cycle + LATENCY);
        end
        if (!m_rvalid || m_rready) begin
            m_rvalid <= 0;
            if (read_due.size() != 0 && read_due[0] <= cycle) begin
                m_rvalid <= 1;
                m_rdata <= memory[read_word[0]];
                m_rlast <= read_beats[0] == 1;
                read_word[0] = read_word[0] + 1;
                read_beats[0] = read_beats[0] - 1;
                if (read_beats[0] == 0) begin
                    void'(read_word.pop_front());
                    void'(read_beats.pop_front());
                    void'(read_due.pop_front());
                end
            end
        end
        if (m_bvalid && m_bready) m_bvalid <= 0;
        if (m_wvalid && write_left != 0) begin
            for (n = 0; n < BEAT_BYTES; n = n + 1)
                if (m_wstrb[n]) memory[write_word[0]][8*n+:8] = m_wdata[8*n+:8];
            write_word[0] = write_word[0] + 1;
            write_beats[0] = write_beats[0] - 1;
            if (m_wlast != (write_beats[0] == 0)) $fatal(1, "wlast at the wrong beat");
            if (m_wlast) begin
                void'(write_word.pop_front());
                void'(write_beats.pop_front());
                m_bvalid <= 1;
            end
        end
        if (aresetn && m_awvalid) begin
            write_word.push_back(m_awaddr >> BEAT_SHIFT);
            write_beats.push_back(m_awlen + 1);
        end
        // An answer a time: the next burst waits until it is taken.
        write_left <= (write_beats.size() != 0 && !(m_wvalid && m_wlast && write_left != 0) && !m_bvalid) ? 1 : 0;
        if (cycle == CYCLES_MAX) $fatal(1, "no interrupt");
    end

    // Registers are driven at falling edges: what is ready just after one is so at the rising edge.
    reg address_taken, data_taken;
    task automatic write_register(input integer offset, input [31:0] value);
        begin
            @(negedge aclk);
            awaddr = offset[11:0];
            wdata = value;
            awvalid = 1;
            wvalid = 1;
            while (awvalid || wvalid) begin
                #1 address_taken = awready;
                data_taken = wready;
                @(negedge aclk);
                if (address_taken) awvalid = 0;
                if (data_taken) wvalid = 0;
            end
            while (!bvalid) @(negedge aclk);
            if (bresp != 0) $fatal(1, "a write to register %h was refused", offset);
            @(negedge aclk);
        end
    endtask

    task automatic read_register(input integer offset, output [31:0] value);
        begin
            @(negedge aclk);
            araddr = offset[11:0];
            arvalid = 1;
            while (arvalid) begin
                #1 address_taken = arready;
                @(negedge aclk);
                if (address_taken) arvalid = 0;
            end
            while (!rvalid) @(negedge aclk);
            value = rdata;
            @(negedge aclk);
        end
    endtask

    reg [31:0] value;
    integer word, wrong;
    initial begin
        $readmemh("before.hex", memory);
        $readmemh("after.hex", expected);
        repeat (5) @(negedge aclk);
        aresetn = 1;
        read_register(REGISTER_ID, value);
        if (value != IDENTITY) $fatal(1, "register ID reads %h", value);
        write_register(REGISTER_QUEUE_BASE_LO, QUEUE);
        write_register(REGISTER_RECORD_BASE_LO, RECORDS);
        write_register(REGISTER_IRQ_ENABLE, 3);
        write_register(REGISTER_CONTROL, 1);
        write_register(REGISTER_TAIL, 1);
        while (irq !== 1) @(negedge aclk);
        read_register(REGISTER_HEAD, value);
        if (value != 1) $fatal(1, "HEAD reads %0d", value);
        wrong = 0;
        for (word = 0; word < MEMORY_WORDS; word = word + 1)
            if ((word * BEAT_BYTES < RECORDS || word * BEAT_BYTES >= RECORDS + RECORD_BYTES)
                && memory[word] !== expected[word]) wrong = wrong + 1;
        if (wrong != 0) $fatal(1, "%0d words of memory are not as expected", wrong);
        $display("lean_attention_axi: memory is as expected after %0d cycles", cycle);
        $finish;
    end
endmodule

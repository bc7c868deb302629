// The guest of the suite: from real mode to long mode, then whatever the host asks for.
//
// It stands at 0x10000 and is entered at its first byte, in real mode, cs = 0x1000.
//
//   0x01000  page tables: 4 GiB, the same address for the same byte
//   0x08000  interrupt descriptors
//   0x09000  what it counts, and what it was given
//   0x0a000  where a second processor begins
//   0x0f000  the top of its stack

    .section .rodata.hv_suite, "a", @progbits
    .balign 16
    .globl hv_suite_start
hv_suite_start:
    .code16
    jmp 10f

    .balign 16                      // 0x10: descriptors
    .quad 0
    .quad 0x00cf9b000000ffff        // 0x08: code, 32 bits
    .quad 0x00cf93000000ffff        // 0x10: data
    .quad 0x00af9b000000ffff        // 0x18: code, 64 bits
    .word 31                        // 0x30: where they are
    .long 0x10010

10: cli
    mov ax, 0x1000
    mov ds, ax
    mov eax, ebx                    // what the host put there
    mov dx, 0x500
    out dx, eax
    .byte 0x0f, 0x01, 0x16, 0x30, 0 // lgdt [0x30]
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea                // jmp 8:start32
    .long 0x10000 + hv_suite_32 - hv_suite_start
    .word 8

    .code32
hv_suite_32:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0xf000
    mov eax, 32
    mov dx, 0x500
    out dx, al
    cld
    mov edi, 0x1000
    xor eax, eax
    mov ecx, 0x2000
    rep stosd                       // to 0x9000: tables and interrupt descriptors
    mov dword ptr [0x1000], 0x2003
    mov dword ptr [0x2000], 0x3003
    mov dword ptr [0x2008], 0x4003
    mov dword ptr [0x2010], 0x5003
    mov dword ptr [0x2018], 0x6003
    mov edi, 0x3000
    mov eax, 0x83
    mov ecx, 2048
11: mov dword ptr [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 11b
    mov eax, cr4
    or eax, 0x20                    // PAE
    mov cr4, eax
    mov eax, 0x1000
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100                   // long mode
    wrmsr
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    .byte 0xea                      // jmp 0x18:start64
    .long 0x10000 + hv_suite_64 - hv_suite_start
    .word 0x18

    .code64
hv_suite_64:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov rsp, 0xf000
    mov dx, 0x500
    mov eax, 64
    out dx, al
    xor ecx, ecx
12: mov edi, ecx                    // every vector is a surprise,
    lea rax, [rip + hv_suite_surprise]
    call hv_suite_gate
    inc ecx
    cmp ecx, 256
    jne 12b
    mov edi, 6                      // except these
    lea rax, [rip + hv_suite_undefined]
    call hv_suite_gate
    mov edi, 14
    lea rax, [rip + hv_suite_page]
    call hv_suite_gate
    mov edi, 0x40
    lea rax, [rip + hv_suite_line]
    call hv_suite_gate
    mov edi, 0x41
    lea rax, [rip + hv_suite_message]
    call hv_suite_gate
    mov edi, 0x42
    lea rax, [rip + hv_suite_timer]
    call hv_suite_gate
    lidt [rip + hv_suite_idt]

// Asks what is to be done, does it, and asks again.
hv_suite_next:
    mov dx, 0x510
    in eax, dx
    lea rbx, [rip + hv_suite_table]
    movsxd rcx, dword ptr [rbx + rax * 4]
    add rcx, rbx
    call rcx
    jmp hv_suite_next

    .balign 4
hv_suite_table:
    .long hv_suite_ports - hv_suite_table       // 0
    .long hv_suite_memory - hv_suite_table      // 1
    .long hv_suite_doorbells - hv_suite_table   // 2
    .long hv_suite_listen - hv_suite_table      // 3
    .long hv_suite_wait - hv_suite_table        // 4
    .long hv_suite_dirty - hv_suite_table       // 5
    .long hv_suite_spin - hv_suite_table        // 6
    .long hv_suite_compute - hv_suite_table     // 7
    .long hv_suite_faults - hv_suite_table      // 8
    .long hv_suite_count - hv_suite_table       // 9
    .long hv_suite_stop - hv_suite_table        // 10
    .long hv_suite_triple - hv_suite_table      // 11
    .long hv_suite_cpuid - hv_suite_table       // 12
    .long hv_suite_start_other - hv_suite_table // 13
    .long hv_suite_pit - hv_suite_table         // 14
    .long hv_suite_script - hv_suite_table      // 15

hv_suite_idt:
    .word 0xfff
    .quad 0x8000

// Writes and reads of ports, of every width, one by one and as strings.
hv_suite_ports:
    mov dx, 0x520
    mov eax, 0x44332211
    out dx, al
    out dx, ax
    out dx, eax
    xor eax, eax
    in al, dx
    mov ebx, eax
    in ax, dx
    add ebx, eax
    in eax, dx
    add eax, ebx
    out dx, eax
    lea rsi, [rip + hv_suite_text]
    mov ecx, 5
    mov dx, 0x522
    rep outsb
    mov rdi, 0x9800
    mov ecx, 3
    mov dx, 0x523
    rep insw
    mov rsi, 0x9800
    lodsd
    out dx, eax
    lodsw
    out dx, ax
    ret
hv_suite_text:
    .ascii "wythe"

// The same for memory where there is none.
hv_suite_memory:
    mov ebx, 0xd0000000
    mov rax, 0x8877665544332211
    mov byte ptr [rbx], al
    mov word ptr [rbx + 2], ax
    mov dword ptr [rbx + 4], eax
    mov qword ptr [rbx + 8], rax
    movzx ecx, byte ptr [rbx + 0x10]
    movzx eax, word ptr [rbx + 0x12]
    add ecx, eax
    mov eax, dword ptr [rbx + 0x14]
    add rcx, rax
    add rcx, qword ptr [rbx + 0x18]
    mov qword ptr [rbx + 0x20], rcx
    ret

// Rings two doorbells ten times each, and one that hears another value.
hv_suite_doorbells:
    mov ebx, 0xd0001000
    mov ecx, 10
    mov dx, 0x530
    mov eax, 7
13: mov dword ptr [rbx], eax
    out dx, ax
    dec ecx
    jnz 13b
    mov dword ptr [rbx + 4], eax
    ret

// Switches the local APIC on, and sends line 5 to vector 0x40.
hv_suite_listen:
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov ebx, 0xfec00000
    mov dword ptr [rbx], 0x1b
    mov dword ptr [rbx + 0x10], 0
    mov dword ptr [rbx], 0x1a
    mov dword ptr [rbx + 0x10], 0x40
    ret

// Waits until something has interrupted; says what has so far.
hv_suite_wait:
    mov ebx, 0x9000
    mov rax, qword ptr [rbx + 8]
14: cli
    cmp qword ptr [rbx], rax
    jne 15f
    sti
    hlt
    jmp 14b
15: mov rax, qword ptr [rbx]
    mov qword ptr [rbx + 8], rax
    sti
    mov dx, 0x525
    out dx, eax
    ret

// Writes to three pages.
hv_suite_dirty:
    mov ebx, 0x100000
    mov byte ptr [rbx], 1
    mov byte ptr [rbx + 0x3000], 1
    mov byte ptr [rbx + 0x46000], 1
    ret

hv_suite_spin:
    mov ebx, 0x9100
16: inc qword ptr [rbx]
    jmp 16b

// Numbers out of numbers, through registers and memory.
hv_suite_compute:
    mov ecx, 20000
    mov eax, 1
    xor r9d, r9d
    mov edi, 0x9200
17: imul rax, rax, 0x5851f42d
    add rax, 0x14057b7f
    mov rdx, rax
    shr rdx, 33
    add r9, rdx
    rol r9, 7
    mov qword ptr [rdi], r9
    xor rax, qword ptr [rdi]
    dec ecx
    jnz 17b
    mov dx, 0x524
    out dx, eax
    shr rax, 32
    out dx, eax
    ret

// An instruction that is none, and memory that is not mapped.
hv_suite_faults:
    ud2
    mov rax, 0x123456789000
    mov byte ptr [rax], 0
    ret

// Counts a thousand ticks of the local APIC's timer, 16 nanoseconds each.
hv_suite_count:
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0x3e0], 3
    mov dword ptr [rbx + 0x320], 0x42
    mov dword ptr [rbx + 0x380], 1000
    jmp hv_suite_wait

// Sends the PIT's line to vector 0x40 and has it tick every five milliseconds.
hv_suite_pit:
    mov ebx, 0xfec00000
    mov dword ptr [rbx], 0x15
    mov dword ptr [rbx + 0x10], 0
    mov dword ptr [rbx], 0x14
    mov dword ptr [rbx + 0x10], 0x40
    mov al, 0x34
    out 0x43, al
    mov al, 0x4e
    out 0x40, al
    mov al, 0x17
    out 0x40, al
    jmp hv_suite_wait

// Carries out the script at 0x20000: steps of 16 bytes, what and where and a value, and what came
// of it. Interrupts are off but where the script lets them in; their vectors are logged from
// 0x30000 on, each a byte, behind a count.
hv_suite_script:
    cli
    mov dword ptr [0x30000], 0
    xor ecx, ecx
24: mov edi, ecx
    lea rax, [rcx + rcx * 4]
    lea rbx, [rip + hv_suite_stubs]
    add rax, rbx
    call hv_suite_gate
    inc ecx
    cmp ecx, 256
    jne 24b
    mov esi, 0x20000
25: mov ecx, dword ptr [rsi]
    mov edx, dword ptr [rsi + 4]
    mov eax, dword ptr [rsi + 8]
    cmp ecx, 1
    jb 31f
    je 26f
    cmp ecx, 3
    jb 27f
    je 28f
    cmp ecx, 5
    jb 29f
    mov ecx, dword ptr [0x30000]    // a 0 in the log
    inc dword ptr [0x30000]
    mov byte ptr [rcx + 0x30004], 0
    mov edx, 0x541
    mov ecx, 8
    sti                             // 5: lets interrupts in; an exit is where even a lazy
32: out dx, al                      // hypervisor looks for them
    dec ecx
    jnz 32b
    cli
    xor eax, eax
    jmp 30f
26: mov dword ptr [rdx], eax        // 1: writes memory
    jmp 30f
27: mov eax, dword ptr [rdx]        // 2: reads it
    jmp 30f
28: out dx, al                      // 3: writes a port
    jmp 30f
29: xor eax, eax                    // 4: reads one
    in al, dx
30: mov dword ptr [rsi + 12], eax
    add esi, 16
    jmp 25b
31: ret

    .balign 16
hv_suite_stubs:
    .rept 256
    .byte 0xe8                      // call hv_suite_log
    .long hv_suite_log - . - 4
    .endr
hv_suite_log:
    xchg rax, qword ptr [rsp]       // behind the stub
    push rbx
    push rcx
    lea rbx, [rip + hv_suite_stubs + 5]
    sub rax, rbx
    imul eax, eax, 52429            // a fifth of it
    shr eax, 18
    mov ebx, 0x30000
    mov ecx, dword ptr [rbx]
    inc dword ptr [rbx]
    mov byte ptr [rbx + rcx + 4], al
    pop rcx
    pop rbx
    pop rax
    iretq

hv_suite_stop:
    cli
    hlt
    ret

hv_suite_triple:
    lidt [rip + hv_suite_none]
    ud2
hv_suite_none:
    .word 0
    .quad 0

// Says what cpuid says, for leaves that the host names until it names none.
hv_suite_cpuid:
    mov dx, 0x526
    in eax, dx
    cmp eax, -1
    je 18f
    xor ecx, ecx
    cpuid
    mov esi, edx
    mov dx, 0x526
    out dx, eax
    mov eax, ebx
    out dx, eax
    mov eax, ecx
    out dx, eax
    mov eax, esi
    out dx, eax
    jmp hv_suite_cpuid
18: ret

// Starts the second processor at 0xa000, and waits for what it writes.
hv_suite_start_other:
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0x310], 0x1000000
    mov dword ptr [rbx + 0x300], 0xc500
    mov dword ptr [rbx + 0x310], 0x1000000
    mov dword ptr [rbx + 0x300], 0x8500
    mov dword ptr [rbx + 0x310], 0x1000000
    mov dword ptr [rbx + 0x300], 0x060a
    mov ebx, 0x9300
19: pause
    mov eax, dword ptr [rbx]
    test eax, eax
    jz 19b
    mov dx, 0x527
    out dx, eax
    ret

// Sets the gate of vector rdi to rax.
hv_suite_gate:
    shl rdi, 4
    add rdi, 0x8000
    mov word ptr [rdi], ax
    mov word ptr [rdi + 2], 0x18
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov word ptr [rdi + 6], ax
    ret

// Shows the two words that are foremost on the stack, and stops.
hv_suite_surprise:
    pop rax
    mov dx, 0x501
    out dx, eax
    pop rax
    out dx, eax
20: cli
    hlt
    jmp 20b

// Goes on behind the two bytes of ud2.
hv_suite_undefined:
    push rax
    push rdx
    mov eax, 6
    mov dx, 0x502
    out dx, al
    add qword ptr [rsp + 16], 2
    pop rdx
    pop rax
    iretq

// Says the error code and where, and goes on behind the three bytes of the store.
hv_suite_page:
    push rax
    push rdx
    mov dx, 0x503
    mov rax, qword ptr [rsp + 16]
    out dx, eax
    mov rax, cr2
    out dx, eax
    shr rax, 32
    out dx, eax
    pop rdx
    pop rax
    add rsp, 8
    add qword ptr [rsp], 3
    iretq

// Counts, in a byte for each kind, and ends.
hv_suite_line:
    push rbx
    mov ebx, 0x9000
    inc byte ptr [rbx]
    jmp 21f
hv_suite_message:
    push rbx
    mov ebx, 0x9000
    inc byte ptr [rbx + 1]
    jmp 21f
hv_suite_timer:
    push rbx
    mov ebx, 0x9000
    inc byte ptr [rbx + 2]
21: mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xb0], 0
    pop rbx
    iretq

    .globl hv_suite_end
hv_suite_end:

// The second processor's first steps; stands at 0xa000.
    .globl hv_suite_other
hv_suite_other:
    .code16
    xor ax, ax
    mov ds, ax
    mov ax, cs
    mov dx, 0x540
    out dx, ax
    mov eax, 0x600d
    .byte 0x66, 0xa3, 0x00, 0x93    // mov [0x9300], eax
22: cli
    hlt
    jmp 22b
    .code64
    .globl hv_suite_other_end
hv_suite_other_end:
    .text

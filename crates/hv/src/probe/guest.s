// The guest of the probe: 64 bits, entered by the host at whatever it is to try. It says how that
// went through ports: 0x601 that it is done (1) or did something wrong (2), 0x602 that an exception
// came, and which.

    .section .rodata.hv_probe, "a", @progbits
    .balign 16
    .globl hv_probe_start
hv_probe_start:
    .long hv_probe_rate - hv_probe_start
    .long hv_probe_exits - hv_probe_start
    .long hv_probe_popcnt - hv_probe_start
    .long hv_probe_cmpxchg16b - hv_probe_start
    .long hv_probe_sse - hv_probe_start
    .long hv_probe_int3 - hv_probe_start
    .long hv_probe_xsave - hv_probe_start
    .long hv_probe_syscall - hv_probe_start
    .long hv_probe_cpuid - hv_probe_start
    .long hv_probe_entered - hv_probe_start

    // 32 stubs of 16 bytes each, 0x40 from the beginning.
    .balign 64
    .irp vector, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    .balign 16
    mov eax, \vector
    jmp hv_probe_trapped
    .endr
    .balign 16
hv_probe_trapped:
    mov dx, 0x602
    out dx, eax
    jmp hv_probe_halt

// Five instructions a round, rcx rounds.
hv_probe_rate:
    add rax, rcx
    xor rax, rbx
    lea rbx, [rbx + rax]
    dec rcx
    jnz hv_probe_rate
    jmp hv_probe_done

hv_probe_exits:
    mov dx, 0x600
30: out dx, al
    jmp 30b

hv_probe_popcnt:
    mov rbx, 0x8000000000f0f0f1
    popcnt rax, rbx
    cmp rax, 14
    jmp hv_probe_said

hv_probe_cmpxchg16b:
    mov edi, 0xb000
    xor eax, eax
    xor edx, edx
    mov qword ptr [rdi], rax
    mov qword ptr [rdi + 8], rax
    mov ebx, 5
    mov ecx, 7
    lock cmpxchg16b xmmword ptr [rdi]
    jnz hv_probe_wrong
    mov rax, qword ptr [rdi]
    shl rax, 4
    add rax, qword ptr [rdi + 8]
    cmp rax, 0x57
    jmp hv_probe_said

hv_probe_sse:
    mov eax, 0x40400000             // 3.0
    movd xmm0, eax
    pshufd xmm1, xmm0, 0
    addps xmm0, xmm1
    mulss xmm0, xmm1
    movd eax, xmm0
    cmp eax, 0x41900000             // 18.0
    jmp hv_probe_said

hv_probe_int3:
    int3
    jmp hv_probe_wrong

hv_probe_xsave:
    mov edi, 0xc000
    mov eax, 0x12345678
    movd xmm0, eax
    mov eax, 3
    xor edx, edx
    xsave [rdi]
    pxor xmm0, xmm0
    mov eax, 3
    xor edx, edx
    xrstor [rdi]
    movd eax, xmm0
    cmp eax, 0x12345678
    jmp hv_probe_said

// To ring 3, and back with a system call.
hv_probe_syscall:
    push 0x23
    push 0xa000
    push 2
    push 0x1b
    lea rax, [rip + hv_probe_user]
    push rax
    iretq
hv_probe_user:
    mov ax, cs
    and eax, 3
    mov ebx, eax                    // ring 3
    syscall
hv_probe_back:
    jmp hv_probe_back
hv_probe_entered:
    mov rsp, 0x9000
    cmp ebx, 3
    jne hv_probe_wrong
    mov ax, cs
    test al, 3
    jnz hv_probe_wrong
    lea rax, [rip + hv_probe_back]
    cmp rax, rcx
    jmp hv_probe_said

// Leaf 1 says what was arranged: esi, of the bits edi.
hv_probe_cpuid:
    mov eax, 1
    xor ecx, ecx
    cpuid
    and ecx, edi
    cmp ecx, esi

hv_probe_said:
    jne hv_probe_wrong
hv_probe_done:
    mov al, 1
    mov dx, 0x601
    out dx, al
hv_probe_wrong:
    mov al, 2
    mov dx, 0x601
    out dx, al
hv_probe_halt:
    hlt
    jmp hv_probe_halt

    .globl hv_probe_end
hv_probe_end:
    .text

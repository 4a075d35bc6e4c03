# bash completion for cistern: verbs, options, and directories where an option takes one.
_cistern()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
    local target="--mount --root --provider --provider-path --key-file"
    COMPREPLY=()
    case $prev in
    --mount | --dir)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --provider-path | --key-file | --hf-config | --tenant-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --provider)
        mapfile -t COMPREPLY < <(compgen -W "auto hf3fs local" -- "$cur")
        return
        ;;
    --emit)
        mapfile -t COMPREPLY < <(compgen -W "rtp k8s helm docker systemd" -- "$cur")
        return
        ;;
    --dtype)
        mapfile -t COMPREPLY < <(compgen -W "bf16 fp16 fp32 fp8 int8" -- "$cur")
        return
        ;;
    --only)
        [ "$verb" != doctor ] || mapfile -t COMPREPLY < <(compgen -W "$(cistern doctor --list 2>/dev/null |
            while read -r id _; do echo "$id"; done)" -P "${cur%"${cur##*,}"}" -- "${cur##*,}")
        return
        ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "bench stat metrics ls fsck verify gc wipe retire ttl export import pin unpin pins warm explain doctor clusters plan replay version" -- "$cur")
        return
    fi
    case $verb in
    help)
        mapfile -t COMPREPLY < <(compgen -W "bench stat metrics ls fsck verify gc wipe retire ttl export import pin unpin pins warm explain doctor clusters plan replay version" -- "$cur")
        ;;
    stat)
        mapfile -t COMPREPLY < <(compgen -W "$target --live --pid --watch --times --json --help" -- "$cur")
        ;;
    metrics)
        mapfile -t COMPREPLY < <(compgen -f -W "--listen --textfile --interval --pid --json --help" -- "$cur")
        ;;
    ls)
        mapfile -t COMPREPLY < <(compgen -W "$target --space --shard --segments --blocks --json --help" -- "$cur")
        ;;
    fsck)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --repair --dry-run --silence --list --json --help" -- "$cur")
        ;;
    verify)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --rate --segments --json --help" -- "$cur")
        ;;
    gc)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --to --grace --rate --space --silence --dry-run --verbose --json --help" -- "$cur")
        ;;
    wipe)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --model --older-than --tenant --tenant-file --all --yes --dry-run --force --grace --silence --verbose --json --help" -- "$cur")
        ;;
    retire)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --model --undo --dry-run --json --help" -- "$cur")
        ;;
    ttl)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --model --seconds --none --dry-run --json --help" -- "$cur")
        ;;
    export)
        mapfile -t COMPREPLY < <(compgen -f -W "$target --with-salt --json --help" -- "$cur")
        ;;
    import)
        mapfile -t COMPREPLY < <(compgen -f -W "$target --json --help" -- "$cur")
        ;;
    pin)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --prompt --tenant --lora --key --keys --label --expires --dry-run --json --help" -- "$cur")
        ;;
    unpin | pins)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --json --help" -- "$cur")
        ;;
    warm)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --prompt --tenant --lora --key --keys --rate --pin --label --expires --verbose --json --help" -- "$cur")
        ;;
    explain)
        mapfile -t COMPREPLY < <(compgen -d -W "$target --space --prompt --tenant --lora --key --keys --read --prefill-rate --read-rate --verbose --json --help" -- "$cur")
        ;;
    doctor)
        mapfile -t COMPREPLY < <(compgen -d -W "--mount --root --tp --only --list --clean --quiet --strict --timeout --sysroot --json
            --help" -- "$cur")
        ;;
    clusters)
        mapfile -t COMPREPLY < <(compgen -f -W "--file --cluster --host --mount --root --json --help" -- "$cur")
        ;;
    plan)
        mapfile -t COMPREPLY < <(compgen -f -W "--hf-config --layers --kv-heads --head-dim --mla-rank --mla-rope --dtype --tp
            --block-tokens --context --concurrency --ttft --hours --request-seconds --new
            --prefill-rate --bandwidth --read-latency --lane-rate --read-staging --write-staging
            --host-memory --arithmetic --json --emit --name --image --mount --root --fuse-service
            --storage-release --help" -- "$cur")
        ;;
    replay)
        mapfile -t COMPREPLY < <(compgen -f -W "--mount --root --provider --key-file --provider-path --tp --block-bytes --token-bytes
            --hf-config --prefill-rate --speed --limit --capacity --segment --staging --keep --html
            --json --help" -- "$cur")
        ;;
    bench)
        if [ "$COMP_CWORD" -eq 2 ] && [ "${cur:0:1}" != - ]; then
            mapfile -t COMPREPLY < <(compgen -W "put get rand guard share scrape match key open all" -- "$cur")
            return
        fi
        mapfile -t COMPREPLY < <(compgen -W "--dir --root --keep --block --parts --total --count
            --lanes --depth --io-bytes --request --inflight --slices --seconds --quick --chain
            --puts --sync-inside --direct --raw-huge --buffered --encrypt --arena --staging --segment --provider --provider-path
            --seed --json --help" -- "$cur")
        ;;
    esac
}
complete -F _cistern cistern

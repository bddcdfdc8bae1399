# Every verb once, on a folder named notes.
export MEMALLOY_DB=kb
memalloy sync notes
memalloy search -k 3 "how long are backups kept?"
memalloy search --json -k 1 "how long are backups kept?"
memalloy ls
memalloy get notes/backup.md
memalloy status
timeout 2 memalloy watch notes || true             # sync, and again for what changes, until Ctrl-C
memalloy index                                     # nothing is due in a small store
memalloy index --lance                             # also an index in the table itself, for lancedb
memalloy search --recall 1 --explain "backups"
rm notes/old.md && memalloy sync notes             # the store follows the folder
memalloy ls | head -n 1 | cut -f 1 | xargs memalloy rm
echo "a text" | memalloy embed
memalloy embed --file notes/backup.md --output lines.npy   # a line, a vector; also .arrow, .arrows
memalloy embed --kind query "how long are backups kept?" | head -c 60
memalloy tokenize --special "a text"
memalloy model ls
memalloy model verify

# Every verb once, on a folder named notes.
export MEMALLOY_DB=kb
memalloy sync notes
memalloy search -k 3 "how long are backups kept?"
memalloy search --json -k 1 "how long are backups kept?"
memalloy ls
memalloy get notes/backup.md
memalloy status
rm notes/old.md && memalloy sync notes             # the store follows the folder
memalloy ls | head -n 1 | cut -f 1 | xargs memalloy rm
echo "a text" | memalloy embed
memalloy tokenize --special "a text"

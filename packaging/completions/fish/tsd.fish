# Completion of tsd for fish. Made by generate.py, which see: do not edit.

# Whether the words so far are this command, and where a number is given that many words of it.
function __tsd_at
    set -l commands 
    set -l values '--config' '--ts-config' '--model-store' '--models' '--runtime-dir' '--state-dir' '--python' '--http' '--management' '--metrics' '--grpc' '--grpc-management' '--log-level' '--exit-on-idle' '--migrate'
    set -l command
    set -l place 0
    set -l is_value no
    for word in (commandline -opc)[2..-1]
        set -l path (string trim -- "$command $word")
        if test $is_value = yes
            set is_value no
        else if string match -q -- '-*' $word
            contains -- $path $values; and set is_value yes
        else if contains -- $path $commands
            set command $path
        else
            set place (math $place + 1)
        end
    end
    test "$command" = "$argv[1]"; or return 1
    not set -q argv[2]; or test $place -eq $argv[2]
end

complete -c tsd -f
complete -c tsd -n '__tsd_at \'\'' -s h -l help -d 'show this help message and exit'
complete -c tsd -n '__tsd_at \'\'' -l version -d 'say it and leave'
complete -c tsd -n '__tsd_at \'\'' -l config -r -F -d 'the configuration file (tsd.toml)'
complete -c tsd -n '__tsd_at \'\'' -l ts-config -r -F -d 'TorchServe\'s config.properties'
complete -c tsd -n '__tsd_at \'\'' -l model-store -x -a '(__fish_complete_directories)' -d 'the folder that archives come from'
complete -c tsd -n '__tsd_at \'\'' -l models -x -d 'models to serve from the start: NAME=ARCHIVE[,...] or all'
complete -c tsd -n '__tsd_at \'\'' -l runtime-dir -x -a '(__fish_complete_directories)' -d 'where control.sock and http.sock are made'
complete -c tsd -n '__tsd_at \'\'' -l state-dir -x -a '(__fish_complete_directories)' -d 'where the desired state is kept'
complete -c tsd -n '__tsd_at \'\'' -l python -r -F -d 'the interpreter that has torch'
complete -c tsd -n '__tsd_at \'\'' -l http -x -d 'ADDR:PORT for predictions, or none'
complete -c tsd -n '__tsd_at \'\'' -l management -x -d 'ADDR:PORT for the management API, or none'
complete -c tsd -n '__tsd_at \'\'' -l metrics -x -d 'ADDR:PORT for Prometheus, or none'
complete -c tsd -n '__tsd_at \'\'' -l grpc -x -d 'ADDR:PORT for predictions by gRPC, or none'
complete -c tsd -n '__tsd_at \'\'' -l grpc-management -x -d 'ADDR:PORT for managing models by gRPC, or none'
complete -c tsd -n '__tsd_at \'\'' -l log-level -x -a 'debug info warning error critical' -d 'debug, info, warning, error or critical'
complete -c tsd -n '__tsd_at \'\'' -l exit-on-idle -x -d 'leave when nothing was asked for so long (30s, 10min, 1h); under systemd'
complete -c tsd -n '__tsd_at \'\'' -l migrate -r -F -d 'for `tsctl migrate`: translate one'
complete -c tsd -n '__tsd_at \'\'' -l check-config -d 'read the configuration, say what is wrong'
complete -c tsd -n '__tsd_at \'\'' -l print-config -d 'print every value and where it came from'

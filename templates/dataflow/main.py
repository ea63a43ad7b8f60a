from beam_etl.cli import run

run()

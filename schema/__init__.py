"""Tables, migrations, SQL views, shard layout and connections; imports none of the other floors."""

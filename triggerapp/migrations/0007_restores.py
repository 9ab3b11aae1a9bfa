
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0006_worker_waiting'),
    ]

    operations = [
        migrations.CreateModel(
            name='Restore',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lease', models.PositiveBigIntegerField()),
                ('attempt', models.PositiveSmallIntegerField()),
                ('sequence', models.PositiveIntegerField()),
                ('wait', models.UUIDField(null=True)),
                ('host', models.CharField(max_length=255)),
                ('made_on', models.CharField(max_length=255)),
                ('made_at', models.DateTimeField()),
                ('dumped_in', models.DurationField()),
                ('size', models.BigIntegerField()),
                ('image_size', models.BigIntegerField()),
                ('took', models.DurationField()),
                ('problem', models.TextField(db_default='', default='')),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('environment', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='triggerapp.environment')),
                ('run', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='restores', to='triggerapp.run')),
            ],
            options={
                'indexes': [models.Index(fields=['run', 'id'], name='restore_of_run'), models.Index(fields=['environment', '-at'], name='restore_newest')],
            },
        ),
    ]
